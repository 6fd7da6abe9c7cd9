"""The former name of `plumbline.pytest_plugin`."""

raise ImportError("the pytest plugin is plumbline.pytest_plugin now, and pytest loads it by itself: leave -p out")
