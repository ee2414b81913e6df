"""What an emulated board has in place of a real board's firmware: runs on MicroPython's unix port.

The interpreter is the real thing; what the unix port lacks of a board is made here, and put in the place of its
modules (`start`):

    host      the C library, and the registers that are shared with the part on CPython
    flash     the block device that littlefs lies on, and the ROMFS partition
    line      the serial line: standard input and output, and machine.UART
    repl      friendly and raw REPL, and what boards do before it
    chip      the module machine
    sound     machine.I2S
    radio     the module network

It is compiled and run from where it is mapped into memory, so that little of it lies in the heap.
"""
