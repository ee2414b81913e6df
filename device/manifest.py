"""For who builds a firmware: the program frozen into it, where it takes neither heap nor room in the file system.

    make -C ports/esp32 BOARD=ESP32_GENERIC FROZEN_MANIFEST=.../device/manifest.py

The first is the port's own: without it there would be no file system at the start. boot.py and main.py stay files, so
that a person can take them away.
"""

include("$(PORT_DIR)/boards/manifest.py")
package("sipwire", base_path="../shared")
package("terminal")
