"""What turns instances into pseudo-GT rows, behind one interface."""
