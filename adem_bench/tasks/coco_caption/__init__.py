"""COCO captions: free text about an image, scored against several references."""
