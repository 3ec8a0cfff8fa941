"""Is this picture, and is this mask, to be believed?"""
