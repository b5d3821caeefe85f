"""Has a change made anything worse?"""
