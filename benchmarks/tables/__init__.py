"""The papers' tables, trained here, and small studies of the losses and the data."""
