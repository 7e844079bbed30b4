/**
 * Runs before the command line loads anything else. A join URL among the arguments shows its token to all users of this
 * machine, who can list its processes. So the listed arguments of this process are overwritten; on Linux and macOS that
 * is all of them. `launch.mjs` does the same earlier.
 */
const line = ['lantrain', ...process.argv.slice(2)].join(' ');
/** After the `#` of a link come the token, perhaps the fingerprint, and in an admin link the admin token. */
const hidden = line.replace(/(:\/\/[^\s#]*#)[\w-]{22,}((\.[\w-]*)?)(\.[\w-]*)?/g, '$1TOKEN$2');
if (hidden !== line) process.title = hidden;

export {};
