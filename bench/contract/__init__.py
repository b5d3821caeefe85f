"""What every method must do, as checks that the suite's tests run over the registry and a package's own tests over its
own methods."""
