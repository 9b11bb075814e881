"""What a run leaves on disk to go on from: written behind the loop, verified before it is used."""
