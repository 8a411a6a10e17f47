"""What a raw dataset or a shard set holds, what in it is missing or contradictory, and contact sheets of its annotation."""
