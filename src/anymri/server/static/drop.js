// Files that are dropped or chosen, with the folders they lie in.

/** Files of a drop, folders walked through: list of {file, path}. */
export async function droppedFiles(transfer) {
  // Entries must be taken before anything is awaited: the list is emptied afterwards.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry instanceof File) {
    found.push({ file: entry, path: entry.name });
  } else if (entry?.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path: entry.fullPath.replace(/^\//, "") });
  } else if (entry?.isDirectory) {
    const reader = entry.createReader();
    // A folder is told in portions; an empty one ends it.
    for (;;) {
      const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!portion.length) break;
      for (const inner of portion) await walk(inner, found);
    }
  }
}

/** Files of an input: list of {file, path}. */
export const chosenFiles = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
