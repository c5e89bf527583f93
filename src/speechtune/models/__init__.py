"""Everything that differs between kinds of models, behind one interface: `Recogniser`."""
