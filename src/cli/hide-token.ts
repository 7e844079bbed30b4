/**
 * The first thing that the command line does, before it loads anything else: a join URL among the arguments shows its
 * token to all users of this machine, who can list its processes. What is listed of this process is overwritten; on
 * Linux and macOS, that is all of its arguments. `launch.mjs` does the same, earlier.
 */
const line = ['lantrain', ...process.argv.slice(2)].join(' ');
/** After the `#` of a link stand the token, perhaps the fingerprint, and in an admin link the admin token. */
const hidden = line.replace(/(:\/\/[^\s#]*#)[\w-]{22,}((\.[\w-]*)?)(\.[\w-]*)?/g, '$1TOKEN$2');
if (hidden !== line) process.title = hidden;

export {};
