"""Images that come with imagescape, so that everything can be tried at once. Light: `openmoji` draws them."""
