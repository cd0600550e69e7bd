"""A whole archive, resumable: local folders on the base install, stores and Ray with [batch]."""
