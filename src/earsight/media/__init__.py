"""A file and time spans in; frames and samples out, aligned by their timestamps."""
