/**
 * The first thing that the command line does, before it loads anything else: a join URL among the arguments shows its
 * token to all users of this machine, who can list its processes. What is listed of this process is overwritten; on
 * Linux and macOS, that is all of its arguments. `launch.mjs` does the same, earlier.
 */
const line = ['lantrain', ...process.argv.slice(2)].join(' ');
/** A token stands after the `#` of a link. */
const hidden = line.replace(/(:\/\/[^\s#]*#)[A-Za-z0-9_-]{22,}/g, '$1TOKEN');
if (hidden !== line) process.title = hidden;

export {};
