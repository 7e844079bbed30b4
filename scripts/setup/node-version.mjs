/** The oldest Node that lantrain supports, as in `engines` of package.json. */
const oldestNode = 20;

/** @returns the message for a Node that is too old, else undefined. */
export function refuseNode(version) {
  if (Number(version.split('.')[0]) >= oldestNode) return undefined;
  return (
    `lantrain needs Node ${oldestNode} or newer, this is Node ${version}: install a newer one (https://nodejs.org), ` +
    'then try again'
  );
}
