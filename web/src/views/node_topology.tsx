/* How the cards of a node are joined, as `nvidia-smi topo -m` names it. */
import { path } from '../api/client.ts';
import type { Topology } from '../api/types.ts';
import { Empty, ErrorNote, Loading, Section } from '../ui/parts.tsx';
import { useRest } from '../ui/use_rest.ts';

const MEANINGS: Record<string, string> = {
  PIX: 'one PCIe switch or bridge',
  PXB: 'several PCIe bridges',
  PHB: 'the host bridge',
  NODE: 'several host bridges of one NUMA node',
  SYS: 'the link between NUMA nodes',
};

export function linkMeaning(kind: string): string {
  const links = /^NV(\d+)$/.exec(kind)?.[1];
  return links ? `${links} NVLink${links === '1' ? '' : 's'}` : (MEANINGS[kind] ?? kind);
}

function linkClass(kind: string): string {
  return kind.startsWith('NV') ? 'near' : ['PIX', 'PXB'].includes(kind) ? 'middle' : 'far';
}

function Matrix({ topology }: { topology: Topology }) {
  const gpus = [...topology.gpus].sort((a, b) => a.index - b.index);
  const kinds = new Map(topology.links.flatMap((link) => [[`${link.a} ${link.b}`, link.kind], [`${link.b} ${link.a}`, link.kind]] as const));
  const seen = [...new Set(topology.links.map((link) => link.kind))].sort();
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label="Topology matrix">
        <table class="matrix">
          <thead>
            <tr>
              <td />
              {gpus.map((gpu) => (
                <th key={gpu.uuid} scope="col">
                  {gpu.index}
                </th>
              ))}
              <th scope="col">NUMA</th>
              <th scope="col">CPUs</th>
            </tr>
          </thead>
          <tbody>
            {gpus.map((row) => (
              <tr key={row.uuid}>
                <th scope="row">GPU {row.index}</th>
                {gpus.map((column) => {
                  if (row === column) return <td key={column.uuid} class="self" aria-label="itself" />;
                  const kind = kinds.get(`${row.uuid} ${column.uuid}`);
                  return (
                    <td key={column.uuid} class={kind ? linkClass(kind) : 'far'} title={kind && linkMeaning(kind)}>
                      {kind ?? '–'}
                    </td>
                  );
                })}
                <td>{row.numa_node ?? '–'}</td>
                <td>{row.cpus ?? '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="hint">{seen.map((kind) => `${kind}: ${linkMeaning(kind)}`).join(' · ')}</p>
    </>
  );
}

export function TopologyMatrix({ name, isOnline }: { name: string; isOnline: boolean }) {
  const rest = useRest<Topology>(isOnline ? path('nodes', name, 'topology') : undefined);
  return (
    <Section title="Topology">
      {!isOnline && <Empty>The node is silent; it cannot be asked.</Empty>}
      {rest.error && <ErrorNote error={rest.error} again={rest.again} />}
      {isOnline && !rest.data && !rest.error && <Loading />}
      {rest.data && (rest.data.gpus.length ? <Matrix topology={rest.data} /> : <Empty>The node told no card.</Empty>)}
    </Section>
  );
}
