export function Clusters(_: { params: URLSearchParams }) {
  return <h1>Clusters</h1>;
}
