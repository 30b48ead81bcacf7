"""Scripts behind the Makefile: set-up and lock. Standard library only, since they run before anything is installed.

Does not belong here: anything the platform itself does.
"""
