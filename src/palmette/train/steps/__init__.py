"""The optimizer step that all stages share: its plan, its batches, its optimizer, and its checkpoints."""
