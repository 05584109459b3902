"""The contracts: one short module per kind. Read this folder to write a plugin.

Each module defines ``<Kind>Config`` (the settings, a pydantic class), a Protocol of what ``build`` returns,
and ``Any<Kind>``, the type under which a recipe accepts every installed component of the kind.
"""
