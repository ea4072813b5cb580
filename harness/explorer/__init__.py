"""The page of `condsim explore`."""
