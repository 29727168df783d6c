"""`ensemble plan`: what a run would take, estimated before it computes anything."""
