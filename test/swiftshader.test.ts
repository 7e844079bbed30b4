import { expect, test } from 'vitest';
import { defaultPlan, missingFor } from '../src/model/plan.js';
import { GpuHarness } from './gpu/harness.js';
import { NEEDS_SWIFTSHADER, swiftShaderIcd } from './swiftshader.js';

test.skipIf(swiftShaderIcd() === undefined)(
  `the kernel tests run on SwiftShader as well, by its own variants ${NEEDS_SWIFTSHADER}`,
  async () => {
    const { gpu } = await GpuHarness.open();
    expect(gpu.adapter.driver).toContain('SwiftShader');
    expect(gpu.adapter.software).toBe(true);
    const plan = defaultPlan(gpu.adapter);
    expect(plan.attention).toBe('subgroup4');
    expect(missingFor(plan, gpu.adapter)).toBeUndefined();
  },
);
