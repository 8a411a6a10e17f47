"""The annotation job: plan, fan out over shards with Ray Data, commit, release."""
