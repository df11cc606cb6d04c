"""Find the instances in images: by cuts, or by a trained detector."""
