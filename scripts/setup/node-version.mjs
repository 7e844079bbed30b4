/** The oldest Node that lantrain takes, as `engines` of package.json says: that of linkedom's dependencies. */
const oldest = [20, 19];

/** @returns what to say to a Node that is too old, else undefined. */
export function refuseNode(version) {
  const [major, minor] = version.split('.').map(Number);
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return undefined;
  return (
    `lantrain needs Node ${oldest.join('.')} or newer, this is Node ${version}: install a newer one ` +
    '(https://nodejs.org), then try again'
  );
}
