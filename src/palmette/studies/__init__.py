"""Many runs made and measured together: sweeps of one recipe, chains of stages."""
