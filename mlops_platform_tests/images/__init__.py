"""Our own images, built from deploy/docker/Dockerfile and run: by `make test-images` alone."""
