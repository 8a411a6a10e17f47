"""Kinds of store, one module each, behind one interface; `engine.storage` alone imports them."""
