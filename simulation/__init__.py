"""Many virtual people, one report. Imports everything; nobody imports it."""
