"""The Ray side: sessions, placement, actors, pools, failures. The only importer of ray."""
