/** Patterns for the paths of a repository's files. */

/**
 * Whether `path` matches: `*` and `?` stand for any characters but "/", `**` for any at all. A pattern without "/" is matched with the
 * file's name, in whatever folder it is.
 */
export function matchesGlob(path: string, pattern: string): boolean {
  const subject = pattern.includes("/") ? path : path.slice(path.lastIndexOf("/") + 1);
  const source = pattern.replaceAll(/\*\*\/?|\*|\?|[.+^${}()|[\]\\]/g, (token) => {
    if (token === "**/") return "(?:.*/)?";
    if (token === "**") return ".*";
    if (token === "*") return "[^/]*";
    return token === "?" ? "[^/]" : `\\${token}`;
  });
  return new RegExp(`^${source}$`, "u").test(subject);
}
