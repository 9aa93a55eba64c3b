"""Device meshes, sharding, multi-process jobs and preemption."""
