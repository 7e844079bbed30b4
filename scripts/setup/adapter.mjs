/** Finds a usable WebGPU adapter. Where there is none, installs a driver or says what to do. */
import fs from 'node:fs';
import { driverVariables, probeAnswer, probeArguments } from '../../src/node/vulkan.mjs';
import { installDriver } from './driver.mjs';
import { childEnvironment, run, Stop, say } from './process.mjs';

const adapterTimeoutMs = 60000;

/** @returns the probe's answer, and `said`: what Dawn said */
async function findAdapter(env = childEnvironment) {
  const result = await run(process.execPath, probeArguments, { env, timeoutMs: adapterTimeoutMs });
  const answer = probeAnswer(result.stdout);
  if (answer === undefined) return { said: result.output.trim() };
  return { ...answer, said: result.stderr.trim() };
}

/** A message with everything that the Vulkan loader saw. */
function describeFailure(found) {
  const folders = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d'];
  const drivers = folders.flatMap((folder) =>
    fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => `${folder}/${name}`) : [],
  );
  const set = driverVariables.filter((name) => process.env[name] !== undefined);
  return [
    ...(process.platform === 'linux' ? [`Vulkan drivers on this machine: ${drivers.join(', ') || 'none'}`] : []),
    ...set.map((name) => `${name} is set to '${process.env[name]}', which says what drivers are looked at`),
    ...(found.said ? [`Dawn says: ${found.said}`] : []),
  ].join('\n');
}

/** Throws a Stop where an environment variable hides an adapter that works. */
async function refuseHidden() {
  const variables = driverVariables.filter((name) => process.env[name] !== undefined);
  if (variables.length === 0) return;
  const env = { ...childEnvironment };
  for (const name of variables) delete env[name];
  const other = await findAdapter(env);
  if (other.adapter === undefined) return;
  const values = variables.map((name) => `${name}=${process.env[name]}`).join(' ');
  throw new Stop(`no usable WebGPU adapter: ${values} hides '${other.adapter}', which works; unset it, then try again`);
}

export async function ensureAdapter() {
  let found = await findAdapter();
  if (found.adapter !== undefined) return;
  if (found.unloadable !== undefined) {
    throw new Stop(
      `the webgpu package does not load here (it has binaries for macOS, for Windows and for Linux with glibc, ` +
        `x64 and arm64): ${found.unloadable}`,
    );
  }
  await refuseHidden();
  if (process.platform !== 'linux') {
    throw new Stop(`no usable WebGPU adapter: update the graphics driver\n${describeFailure(found)}`);
  }
  try {
    await installDriver();
  } catch (error) {
    throw error instanceof Stop ? new Stop(`${error.message}\n${describeFailure(found)}`) : error;
  }
  found = await findAdapter();
  if (found.adapter === undefined) {
    throw new Stop(`the driver is installed, and still there is no usable WebGPU adapter\n${describeFailure(found)}`);
  }
  say(`the adapter is ${found.adapter}`);
}
