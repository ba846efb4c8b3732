"""The private parts of aiokafka, Faust and numba that the engine stands on, pinned by their source.

A changed digest isn't an error by itself: read the new source beside bare.py, batches.py,
builder.py and transport.py of agents/engine, connection.py and txn_protocol.py of topics, run the
kill suite, then note the new digest.
"""

import hashlib
import importlib
import inspect
from importlib.metadata import version

import pytest

VERSIONS = {"aiokafka": "0.14.0", "faust-streaming": "0.15.3", "mode-streaming": "0.7.1"}
GROUP = "aiokafka.consumer.group_coordinator"
DRIVER = "faust.transport.drivers.aiokafka"
SOURCES = {
    "aiokafka.client:AIOKafkaClient._get_conn": "68ce5d839171",
    "aiokafka.client:AIOKafkaClient._md_synchronizer": "e0421bffa9a7",
    "aiokafka.client:AIOKafkaClient.close": "02119d4d618a",
    "aiokafka.client:AIOKafkaClient.force_metadata_update": "cb7befef21c8",
    "topics.connection:_lookup": "19cc69fb75f8",
    "topics.connection:_send_token": "7a3d948fc526",
    "aiokafka.conn:AIOKafkaConnection.close": "28f164aa1e4f",
    "topics.connection:_send": "5909ea32f4ef",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.start": "2f1ba7044332",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.stop": "bc5da9c98595",
    "aiokafka.consumer.fetcher:Fetcher.close": "1cd24bc1c442",
    f"{GROUP}:GroupCoordinator._push_error_to_user": "743ff515bd7e",
    f"{GROUP}:GroupCoordinator.check_errors": "ba6ca51ad348",
    f"{GROUP}:GroupCoordinator.commit_offsets": "5cbe31af28d6",
    "aiokafka.producer.producer:AIOKafkaProducer.stop": "43ef97147111",
    "aiokafka.producer.sender:Sender._sender_routine": "2380dc5e333d",
    "aiokafka.producer.sender:Sender.start": "ef0a0cbbf1f6",
    f"{DRIVER}:ConsumerRebalanceListener": "f3d04f29dfb3",
    f"{DRIVER}:AIOKafkaConsumerThread.on_start": "38b4e8bd1e10",
    f"{DRIVER}:AIOKafkaConsumerThread.on_thread_stop": "8dfc004e258b",
    f"{DRIVER}:AIOKafkaConsumerThread.subscribe": "74f90b8c8cbc",
    "mode.worker:Worker.execute_from_commandline": "212e98f635d7",
    "mode.worker:Worker.stop_and_shutdown": "bf1608cc3011",
    "mode.worker:Worker._shutdown_loop": "6ad3b1129015",
    "mode.threads:QueueServiceThread.call_thread": "479edda75b54",
    "mode.threads:MethodQueue._process_enqueued": "d88a086d148c",
    "aiokafka.consumer.fetcher:PartitionRecords._unpack_records": "b803e6d46480",
    "aiokafka.consumer.fetcher:FetchResult.getall": "3e717e30de50",
    "aiokafka.consumer.fetcher:FetchResult.check_assignment": "b5340df67e3f",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "be4348896b9b",
    "aiokafka.consumer.fetcher:Fetcher.seek_to": "f0ba6aba6c22",
    "aiokafka.consumer.fetcher:Fetcher._proc_fetch_request": "59bf948fff47",
    "aiokafka.record.default_records:_DefaultRecordBatchPy.__init__": "adc08a5cd162",
    "aiokafka.record.memory_records:_MemoryRecordsPy._cache_next": "7bb73a2eabca",
    "aiokafka.record.memory_records:_MemoryRecordsPy.next_batch": "f1779ecb6d0d",
    "aiokafka.producer.message_accumulator:MessageBatch": "36a7b1dac89d",
    "aiokafka.producer.message_accumulator:MessageAccumulator.add_batch": "5ed1c5b1367a",
    "aiokafka.producer.producer:AIOKafkaProducer.send_batch": "bf42b0f0c5c0",
    f"{GROUP}:GroupCoordinator._on_join_prepare": "4d9524afc0ee",
    "aiokafka.consumer.subscription_state:Subscription": "5e570aaff58e",
    f"{GROUP}:GroupCoordinator._perform_assignment": "a5cf61fa9732",
    f"{GROUP}:GroupCoordinator._on_join_complete": "0b0b3d204b40",
    f"{GROUP}:CoordinatorGroupRebalance.perform_group_join": "ff2c2109b2e9",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.assign": "284d8843e221",
    "aiokafka.consumer.subscription_state:SubscriptionState.assign_from_user": "0a6bd14f1ff6",
    "aiokafka.consumer.subscription_state:Assignment": "ce6859542c70",
    # Where kernels are kept: topics/compiled.py gives numba a locator of its own.
    "numba.core.caching:_CacheLocator": "9d795c906504",
    "numba.core.caching:CacheImpl.__init__": "4d692ab2c1a9",
    "aiokafka.client:AIOKafkaClient.send": "246b277687d7",
    "aiokafka.client:AIOKafkaClient.set_topics": "9f9b55d6d899",
    "topics.connection:_bootstrap": "198943b004e5",
    "topics.connection:_connect": "b0f9ba7f0cf6",
    "topics.connection:_fail": "719b2122c318",
    "topics.connection:_fatal": "8e9fd08dc500",
    "topics.connection:_error": "5c72d40ab25e",
    f"{GROUP}:NoGroupCoordinator": "72ec15ee0975",
    "aiokafka.protocol.api:Request": "1dc66f0574be",
    "aiokafka.protocol.api:RequestStruct": "0c94b7d19018",
    "aiokafka.protocol.types:CompactArray": "3051bc618ade",
    "aiokafka.protocol.types:CompactString": "8474e6b495fa",
    "aiokafka.protocol.types:TaggedFields": "8dc7ecdf81af",
    f"{DRIVER}:AIOKafkaConsumerThread._create_worker_consumer": "c2701bfc3e6f",
    f"{DRIVER}:AIOKafkaConsumerThread._fetch_records": "39a2c6c79fc1",
    f"{DRIVER}:AIOKafkaConsumerThread.getmany": "26fc5fc9f3b6",
    "faust.transport.consumer:Consumer._drain_messages": "44a2500309e8",
    "faust.transport.consumer:Consumer._get_active_partitions": "b24897f3c7af",
    "faust.transport.consumer:Consumer.getmany": "4b168d84882a",
    "faust.transport.conductor:ConductorCompiler.build": "837cf521368c",
    "faust.app.base:App._on_partitions_assigned": "de932b7927db",
    "faust.app.base:App._on_partitions_revoked": "d5c895bbe57d",
}


@pytest.mark.parametrize("package", VERSIONS)
def test_the_pinned_version_is_installed(package: str) -> None:
    assert version(package) == VERSIONS[package]


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_we_stand_on_is_the_one_we_read(name: str) -> None:
    assert digest(name) == SOURCES[name]


def digest(name: str) -> str:
    """The first 12 hex digits of the sha256 of an object's source."""
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()[:12]
