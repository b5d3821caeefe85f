"""Many runs as jobs: on this machine or on Slurm."""
