"""Where do the files of runs and tables lie, in a folder or on S3, and what does such a place promise?"""
