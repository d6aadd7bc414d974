// Opens sar of a Zarr group in a folder with zarrita and prints the sum of its first sample. The script must lie beside
// node_modules:     node zarrita.mjs FOLDER
import * as zarr from "zarrita";
import FileSystemStore from "@zarrita/storage/fs";

const root = zarr.root(new FileSystemStore(process.argv[2]));
const array = await zarr.open(root.resolve("sar"), { kind: "array" });
const sample = await zarr.get(array, [0, null, null, null]);
console.log(sample.data.reduce((total, value) => total + value, 0));
