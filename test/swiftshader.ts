import { existsSync } from 'node:fs';

/** The path in Debian's package `chromium`. */
const DEBIAN = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** SwiftShader's driver manifest: LANTRAIN_SWIFTSHADER, or that of Debian's chromium; undefined where there is none. */
export function swiftShaderIcd(): string | undefined {
  const path = process.env.LANTRAIN_SWIFTSHADER || DEBIAN;
  return existsSync(path) ? path : undefined;
}

/** The environment of a process that uses SwiftShader. */
export function swiftShaderEnvironment(): Record<string, string> {
  const icd = swiftShaderIcd();
  return icd === undefined ? {} : { VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd };
}

/** The suffix of the name of a test that is skipped without it. */
export const NEEDS_SWIFTSHADER = '(needs SwiftShader: apt-get install chromium, or LANTRAIN_SWIFTSHADER)';
