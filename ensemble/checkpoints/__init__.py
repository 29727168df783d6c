"""How are weights kept on disk, and how does a checkpoint become a member and its network?"""
