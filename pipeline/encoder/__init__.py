"""What is computed: the model, its objectives, and the folders of Hugging Face it comes from and goes to."""
