import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';

/** Projects whose time depends on the adapter's speed. */
const ON_ADAPTER: ReadonlySet<string> = new Set(['gpu', 'process', 'browser']);

/** The last lines of a run: the time of each project, and the adapter's speed for comparison. */
export default class Summary implements Reporter {
  #began = performance.now();

  onTestRunStart(): void {
    this.#began = performance.now();
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const wall = (performance.now() - this.#began) / 1000;
    const seconds = new Map<string, { files: number; seconds: number }>();
    for (const module of modules) {
      const { collectDuration, duration, environmentSetupDuration, prepareDuration, setupDuration } =
        module.diagnostic();
      const sum = seconds.get(module.project.name) ?? { files: 0, seconds: 0 };
      sum.files++;
      sum.seconds += (collectDuration + duration + environmentSetupDuration + prepareDuration + setupDuration) / 1000;
      seconds.set(module.project.name, sum);
    }
    const parts = [...seconds].map(([name, sum]) => `${name} ${sum.seconds.toFixed(0)} s in ${sum.files} files`);
    console.log(`   Projects  ${parts.join(', ')} (seconds of one worker each)`);
    console.log(`       Time  ${wall.toFixed(0)} s`);
    if ([...seconds.keys()].some((name) => ON_ADAPTER.has(name))) console.log(`    Ceiling  ${ceiling()}`);
  }
}

/** Measured in another process after the tests, so that nothing else computes meanwhile. */
function ceiling(): string {
  const args = [resolve('dist/src/cli/main.js'), 'doctor', '--json'];
  const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
  try {
    const { ceilings, adapter } = JSON.parse(stdout);
    return `${ceilings.gflops} GFLOP/s multiply-add, ${ceilings.gigabytesPerSecond} GB/s copying, ${adapter.driver}`;
  } catch {
    return 'not known: lantrain doctor says why';
  }
}
