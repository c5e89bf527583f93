"""Every option once, and the words of users turned into `Options`."""
