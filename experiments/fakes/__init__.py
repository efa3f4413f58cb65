"""Ways of making fakes that were tried and that no training uses: they brought too little."""
