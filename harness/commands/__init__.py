"""The commands of `condsim`."""
