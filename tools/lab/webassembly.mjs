// Run by node: MicroPython's port to WebAssembly, which has words of 32 bits, runs a script on a folder.
//
//     node tools/lab/webassembly.mjs /path/to/micropython.mjs folder script.py
//
// The folder is /image there. It has neither sockets nor cryptolib: no terminal runs on it, but its files load.

import { readFileSync, readdirSync, statSync } from "node:fs";

const HEAP_BYTES = 16 * 1024 * 1024;
const [module, folder, script] = process.argv.slice(2);
const { loadMicroPython } = await import(module);
const micropython = await loadMicroPython({ heapsize: HEAP_BYTES, linebuffer: true });

function copy(from, to) {
  micropython.FS.mkdirTree(to);
  for (const name of readdirSync(from)) {
    const path = `${from}/${name}`;
    if (statSync(path).isDirectory()) {
      copy(path, `${to}/${name}`);
    } else {
      micropython.FS.writeFile(`${to}/${name}`, readFileSync(path));
    }
  }
}

copy(folder, "/image");
micropython.runPython(readFileSync(script, "utf8"));
