"""Where the work of a command is done: in this process, on workers of Ray, or in jobs of SLURM (`conf/engine`)."""
