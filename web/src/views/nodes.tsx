/* All nodes, with what is wrong on each. */
import { epoch, nodes, roster } from '../live/store.ts';
import { bytesOf } from '../lib/units.ts';
import { share } from '../lib/units.ts';
import { to, queryText, setQuery } from '../router.ts';
import { Ago, Bar, Empty, Loading, useTitle } from '../ui/parts.tsx';
import type { NodeSummary } from '../api/types.ts';

/** Everything that keeps work away from a node, or will. */
export function troubles(node: NodeSummary): string[] {
  const list: string[] = [];
  if (!node.online) list.push('silent');
  if (node.cordon) list.push(node.cordon.kind === 'drain' ? 'draining' : 'cordoned');
  if (!node.gpus_known) list.push(`GPUs not known${node.gpu_text ? `: ${node.gpu_text}` : ''}`);
  if (!node.engine_ok) list.push(`no containers${node.engine_text ? `: ${node.engine_text}` : ''}`);
  if (!node.disk_ok) list.push(`disk${node.disk_text ? `: ${node.disk_text}` : ''}`);
  return list;
}

function NodeLine({ name }: { name: string }) {
  const node = nodes.get(name)?.value;
  if (!node) return null;
  const wrong = troubles(node);
  return (
    <tr class={node.online ? '' : 'off'}>
      <th scope="row">
        <a href={to.node(name)}>{name}</a>
      </th>
      <td data-label="State">
        <span class={`badge ${wrong.length ? 't-failed' : 't-running'}`}>{node.online ? 'online' : 'offline'}</span>{' '}
        {!node.online && (node.last_seen_ms ? <Ago ms={node.last_seen_ms} /> : 'since the host started')}
      </td>
      <td class="num" data-label="GPUs free">
        {node.gpus_known ? `${node.gpus_free} of ${node.gpus_total}` : 'not known'}
      </td>
      <td class="num" data-label="Cores reserved">
        {node.cores_reserved} of {node.cores}
      </td>
      <td data-label="Memory used">
        <Bar kind="mem" value={share(node.memory_used_bytes, node.memory_total_bytes)} /> {bytesOf(node.memory_used_bytes, node.memory_total_bytes)}
      </td>
      <td class="num" data-label="Tasks">
        {node.tasks.length}
      </td>
      <td data-label="Trouble">{wrong.join(' · ') || 'none'}</td>
    </tr>
  );
}

export function NodesView() {
  useTitle('Nodes');
  const q = new URLSearchParams(queryText.value).get('q') ?? '';
  const list = roster.value.map((row) => row.node).filter((name) => name.toLowerCase().includes(q.toLowerCase()));
  return (
    <>
      <div class="view-head">
        <h1>Nodes</h1>
      </div>
      <div class="filters" role="search" aria-label="Nodes">
        <input type="search" data-search placeholder="Search by name" aria-label="Search for a node" value={q} onInput={(e) => setQuery({ q: e.currentTarget.value })} />
      </div>
      {epoch.value === 0 ? (
        <Loading />
      ) : list.length === 0 ? (
        <Empty>{q ? 'No node has a name like that.' : 'No node has joined yet.'}</Empty>
      ) : (
        <table class="list">
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">State</th>
              <th scope="col" class="num">GPUs free</th>
              <th scope="col" class="num">Cores reserved</th>
              <th scope="col">Memory used</th>
              <th scope="col" class="num">Tasks</th>
              <th scope="col">Trouble</th>
            </tr>
          </thead>
          <tbody>
            {list.map((name) => (
              <NodeLine key={name} name={name} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
