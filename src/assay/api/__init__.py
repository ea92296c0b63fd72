"""What programs and notebooks call. `import assay` gives its names."""
