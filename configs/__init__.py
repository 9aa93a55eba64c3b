"""The shipped config files, one for each experiment; installed as `jaxtal.configs`."""
